// Files in the composer: chosen, pasted or dropped. Each file is uploaded and sent as a separate
// message, in order. The composer (app/composer.js) sends; this script only sets `media` and `type`.

import { texts as composeTexts } from "./compose/texts.js";
import { texts } from "./interface_texts.js";
import { tooLarge, upload } from "./uploads.js";

const CAPTIONED = ["image", "video", "document"];

// Endings of files that WhatsApp never accepts; the server decides by the content.
const REFUSED = /\.(exe|msi|bat|cmd|com|scr|js|jar|apk|dmg|iso|sh|ps1|dll|zip|rar|7z|html?|svg)$/i;

const refused = (file) => {
  if (REFUSED.test(file.name)) return composeTexts.refused.replace("{name}", file.name);
  return tooLarge(file);
};

function caption(file) {
  const field = document.createElement("input");
  field.type = "text";
  field.maxLength = 1024;
  field.dataset.caption = "";
  field.placeholder = composeTexts.caption;
  field.ariaLabel = `${composeTexts.caption}: ${file.name}`;
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      event.target.form.requestSubmit();
    }
  });
  return field;
}

class Files {
  constructor(form) {
    this.form = form;
    this.list = form.querySelector("[data-files]");
    this.input = form.querySelector("[data-file-input]");
    this.text = form.querySelector("textarea");
    this.error = form.querySelector("[data-error]");
    this.waiting = []; // {file, item, uploaded: {id, type} or null, keys: by the text beside it}
    this.heldText = null;
    if (this.text.disabled) return;

    form.querySelector("[data-choose]").addEventListener("click", () => this.input.click());
    this.input.addEventListener("change", () => {
      this.add(this.input.files);
      this.input.value = "";
    });
    this.text.addEventListener("paste", (event) => {
      if (!event.clipboardData.files.length) return;
      event.preventDefault();
      this.add(event.clipboardData.files);
    });
    this.acceptDrops(document.querySelector("main"));
    form.addEventListener("compose:voice", ({ detail }) => this.addVoice(detail));
    // Runs before htmx: while a file is not uploaded yet, nothing can be sent.
    form.addEventListener("submit", (event) => this.submitted(event), true);
    form.addEventListener("htmx:afterRequest", (event) => this.sent(event));
  }

  acceptDrops(area) {
    const hasFiles = (event) => [...event.dataTransfer.types].includes("Files");
    area.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      area.classList.add("is-dropping");
    });
    area.addEventListener("dragleave", (event) => {
      if (!area.contains(event.relatedTarget)) area.classList.remove("is-dropping");
    });
    area.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      area.classList.remove("is-dropping");
      this.add(event.dataTransfer.files);
    });
  }

  add(files) {
    const fit = [...files].filter((file) => !refused(file));
    if (fit.length && !this.waiting.length) this.anotherMessage();
    this.say("");
    for (const file of fit) {
      this.waiting.push({ file, item: this.draw(file), uploaded: null, keys: new Map() });
    }
    const words = [...files].map(refused).filter(Boolean);
    if (words.length) this.say(words.join("\n"));
    this.list.hidden = !this.waiting.length;
    this.text.focus();
  }

  /** Send a recorded voice message before everything else that waits. */
  addVoice(file) {
    if (this.upload) {
      this.waiting.push({ file, item: this.draw(file), uploaded: null, keys: new Map(), voice: true });
      this.list.hidden = false;
      return;
    }
    const item = this.draw(file);
    this.list.prepend(item);
    this.waiting.unshift({ file, item, uploaded: null, keys: new Map(), voice: true });
    this.list.hidden = false;
    this.anotherMessage();
    this.form.requestSubmit();
  }

  draw(file) {
    const item = document.createElement("li");
    const ending = document.createElement("span");
    ending.className = "composer-thumb";
    ending.textContent = file.name.split(".").pop().slice(0, 4).toUpperCase();
    item.append(ending);
    if (file.type.startsWith("image/")) {
      const picture = new Image();
      picture.className = "composer-thumb";
      picture.alt = "";
      picture.addEventListener("load", () => ending.replaceWith(picture));
      for (const event of ["load", "error"]) {
        picture.addEventListener(event, () => URL.revokeObjectURL(picture.src));
      }
      picture.src = URL.createObjectURL(file);
    }
    const name = document.createElement("span");
    name.className = "file-name";
    name.textContent = file.name;
    const progress = document.createElement("progress");
    progress.max = 100;
    progress.value = 0;
    progress.hidden = true;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "icon-button";
    remove.ariaLabel = texts.removeFile.replace("{name}", file.name);
    remove.textContent = "×";
    remove.addEventListener("click", () => this.remove(item));
    item.append(name);
    if (this.waiting.length && !file.type.startsWith("audio/")) item.append(caption(file));
    item.append(progress, remove);
    this.list.append(item);
    return item;
  }

  remove(item) {
    const first = this.waiting[0]?.item === item;
    this.waiting = this.waiting.filter((entry) => entry.item !== item);
    item.remove();
    if (first) {
      this.upload?.abort();
      this.clear();
      this.busy(false);
      this.anotherMessage();
    }
    this.list.hidden = !this.waiting.length;
    this.text.focus();
  }

  submitted(event) {
    const [next] = this.waiting;
    if (!next || this.form.elements.media.value) return; // the composer sends now
    if (next.uploaded) {
      this.fill(next);
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!this.upload) this.send(next);
  }

  send(entry) {
    this.say("");
    this.busy(true);
    const bar = entry.item.querySelector("progress");
    this.upload = upload(entry.file, this.list.dataset.upload, bar, {
      stored: (stored) => this.uploaded(stored, entry),
      failed: (words) => this.failed(words),
    });
    this.upload.addEventListener("abort", () => { this.upload = null; });
  }

  uploaded(stored, entry) {
    this.upload = null;
    this.busy(false);
    entry.uploaded = stored;
    this.form.requestSubmit();
  }

  /** Put an uploaded file into the form. A text that cannot be its caption waits. */
  fill(entry) {
    const { media, type, key, voice } = this.form.elements;
    media.value = entry.uploaded.id;
    type.value = entry.voice ? "audio" : entry.uploaded.type;
    voice.value = entry.voice ? "1" : "";
    const own = entry.item.querySelector("[data-caption]")?.value.trim() ?? "";
    if (own || entry.voice || !CAPTIONED.includes(type.value)) {
      this.heldText = this.text.value;
      this.text.value = CAPTIONED.includes(type.value) ? own : "";
    }
    // The response to an earlier attempt may have been lost: the same text makes the same message,
    // regardless of what was typed in between.
    const words = this.text.value;
    if (!entry.keys.has(words)) entry.keys.set(words, key.value);
    key.value = entry.keys.get(words);
  }

  failed(words) {
    this.upload = null;
    this.busy(false);
    this.say(words);
    this.text.focus();
  }

  /** Handle the result for the first file: send the next, or keep all files for a retry. */
  sent(event) {
    if (event.target !== this.form || !this.form.elements.media.value) return;
    const held = this.heldText;
    const [entry] = this.waiting;
    this.clear();
    if (!event.detail.successful) {
      entry.item.querySelector("progress").hidden = true;
      // Rejected, so nothing was stored; the upload may have been deleted as an orphan.
      if (event.detail.xhr.status === 400) entry.uploaded = null;
      return;
    }
    this.waiting.shift();
    entry.item.remove();
    this.list.hidden = !this.waiting.length;
    // What was being typed beside a voice message stays a draft.
    if (this.waiting.length || (held?.trim() && !entry.voice)) this.form.requestSubmit();
  }

  /** Remove the file from the form and restore a text that was not its caption. */
  clear() {
    this.form.elements.media.value = "";
    this.form.elements.type.value = "";
    this.form.elements.voice.value = "";
    if (this.heldText !== null) this.text.value = this.heldText;
    this.heldText = null;
  }

  /** Notify the composer: adding or removing a file makes a different message. */
  anotherMessage() {
    this.text.dispatchEvent(new Event("input"));
  }

  busy(yes) {
    this.form.ariaBusy = String(yes);
    this.form.querySelector("button:not([type=button])").disabled = yes;
  }

  say(words) {
    this.error.textContent = words;
  }
}

document.querySelectorAll("[data-composer]").forEach((form) => new Files(form));
