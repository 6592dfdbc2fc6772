// The form that writes a message.

import { texts } from "../interface_texts.js";

const NEAR_THE_LIMIT = 0.9;

function count(field, output, max) {
  const length = [...field.value].length;
  output.hidden = length < max * NEAR_THE_LIMIT;
  output.textContent = `${length} / ${max}`;
  output.classList.toggle("counter-over", length > max);
  return length;
}

class Composer {
  constructor(form) {
    this.form = form;
    this.text = form.querySelector("textarea");
    this.button = form.querySelector("button:not([type=button])");
    this.error = form.querySelector("[data-error]");
    this.counter = form.querySelector("[data-count]");
    this.max = Number(form.dataset.max);
    if (this.text.disabled) return;

    this.grow();
    this.text.addEventListener("input", () => this.changed());
    this.text.addEventListener("keydown", (event) => this.pressed(event));
    // Another time is another message.
    form.elements.send_at?.addEventListener("change", () => this.newKey());
    form.elements.deliver_by?.addEventListener("change", () => this.newKey());
    form.addEventListener("htmx:beforeRequest", (event) => this.before(event));
    form.addEventListener("htmx:afterRequest", (event) => this.after(event));
  }

  changed() {
    this.form.classList.toggle("has-text", Boolean(this.text.value.trim()));
    this.say("");
    this.newKey(); // a different text is a different message
    this.grow();
    count(this.text, this.counter, this.max);
  }

  pressed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.text.readOnly) this.form.requestSubmit();
  }

  before(event) {
    if (event.target !== this.form) return;
    const tooLong = count(this.text, this.counter, this.max) > this.max;
    // A file (../files.js) may be sent without a text.
    const empty = !this.text.value.trim() && !this.form.elements.media.value;
    if (tooLong || empty) {
      event.preventDefault();
      if (tooLong) this.say(texts.tooLong.replace("{max}", this.max));
      this.text.focus();
      return;
    }
    this.say("");
    this.busy(true);
  }

  after(event) {
    if (event.target !== this.form) return;
    this.busy(false);
    const { successful, xhr } = event.detail;
    if (successful) {
      this.text.value = "";
      this.now();
      this.newKey();
      this.grow();
      count(this.text, this.counter, this.max);
    } else if (xhr.status === 400) {
      this.say(xhr.responseText);
    } else {
      // Reuse the key: if the first request arrived, the second is recognized as the same.
      this.say(xhr.status ? texts.requestFailed : texts.offline);
    }
    this.text.focus();
  }

  /** The next message is sent at once again. */
  now() {
    const later = this.form.querySelector("[data-later]");
    if (!later) return;
    later.open = false;
    this.form.elements.send_at.value = "";
    this.form.elements.deliver_by.value = "";
  }

  busy(yes) {
    // Not `disabled`: that would remove the focus and close a phone's keyboard.
    this.text.readOnly = yes;
    this.button.disabled = yes;
    this.form.ariaBusy = String(yes);
  }

  say(words) {
    this.error.textContent = words;
    this.text.ariaInvalid = words ? "true" : "false";
  }

  newKey() {
    // `randomUUID` requires a secure context, which a plain-HTTP LAN address is not.
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    this.form.elements.key.value = [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
  }

  grow() {
    if (CSS.supports("field-sizing", "content")) return;
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }
}

document.querySelectorAll("[data-composer]").forEach((form) => new Composer(form));
