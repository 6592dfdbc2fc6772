// The forms of message templates. The server checks and previews what is typed; this script only
// uploads files, marks invalid inputs, counts characters, and adds variables and buttons.

import { texts } from "./interface_texts.js";
import { tooLarge, upload } from "./uploads.js";

// A form rejected with 400 gets its errors from the response, as while typing.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { elt, xhr } = event.detail;
  if (xhr.status === 400 && elt.closest("[data-checked]")) event.detail.shouldSwap = true;
});

document.addEventListener("htmx:oobAfterSwap", (event) => {
  if (event.target.matches("[data-error-text]")) mark(event.target);
});

/** Mark the inputs that an error describes. */
function mark(error) {
  for (const input of document.querySelectorAll(`[aria-describedby~="${CSS.escape(error.id)}"]`)) {
    input.ariaInvalid = String(error.textContent !== "");
  }
}

document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, xhr } = event.detail;
  if (xhr.status === 400 && elt.matches("form[data-checked]")) {
    elt.querySelector("[aria-invalid=true]")?.focus();
  }
});

// --- files -----------------------------------------------------------------------------------------

document.addEventListener("change", (event) => {
  const field = event.target.matches("[data-header-input]") && event.target.closest("[data-header-file]");
  if (field && event.target.files.length) sendFile(field, event.target.files[0]);
});

function sendFile(field, file) {
  const [id, name] = ["id", "name"].map((part) => field.querySelector(`[data-header-${part}]`));
  const submit = field.closest("form").querySelector("button:not([type=button])");
  id.value = "";
  if (tooLarge(file)) {
    say(field, tooLarge(file));
    return;
  }
  say(field, "");
  submit.ariaDisabled = "true";
  upload(file, field.dataset.upload, field.querySelector("progress"), {
    stored: (stored) => {
      submit.ariaDisabled = null;
      id.value = stored.id;
      if (name) name.value = file.name;
      id.dispatchEvent(new Event("input", { bubbles: true }));
    },
    failed: (words) => {
      submit.ariaDisabled = null;
      say(field, words);
    },
  });
}

function say(field, words) {
  const error = field.querySelector("[data-error-text]");
  error.textContent = words;
  mark(error);
}

// While a file is being uploaded, its message is not complete.
document.addEventListener("submit", (event) => {
  if (!event.target.querySelector("[data-header-file] ~ [aria-disabled=true], button[aria-disabled=true]")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, true);

// --- the form that creates a template -----------------------------------------------------------

function count(input) {
  const output = input.closest(".field").querySelector("[data-length]");
  const length = [...input.value].length;
  output.textContent = `${length} / ${input.dataset.longest}`;
  output.classList.toggle("length-over", length > Number(input.dataset.longest));
}

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-longest]")) count(event.target);
});
document.querySelectorAll("[data-longest]").forEach(count);

// Parts that depend on a choice: the kind of the header, the category, the kind of a button.
function showParts(scope) {
  for (const select of scope.querySelectorAll("[data-shows]")) {
    if (select.type === "radio" && !select.checked) continue;
    const within = select.closest("[data-row]") ?? select.form;
    for (const part of within.querySelectorAll(`[data-part-of="${select.dataset.shows}"]`)) {
      part.hidden = !part.dataset.when.split(" ").includes(select.value);
    }
  }
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-shows]")) showParts(event.target.form);
});
document.querySelectorAll("[data-template-form]").forEach(showParts);

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-insert-variable], [data-add-row], [data-remove-row]");
  if (!button) return;
  if ("insertVariable" in button.dataset) insertVariable(button);
  if ("addRow" in button.dataset) addRow(button);
  if ("removeRow" in button.dataset) removeRow(button);
});

/** Insert the next number, or the selected word as a name. */
function insertVariable(button) {
  const input = document.getElementById(button.dataset.insertVariable);
  const numbers = [...input.value.matchAll(/\{\{\s*(\d+)\s*\}\}/g)].map((found) => Number(found[1]));
  input.focus();
  input.setRangeText(`{{${Math.max(0, ...numbers) + 1}}}`, input.selectionStart, input.selectionEnd, "end");
  changed(input);
}

function addRow(button) {
  const rows = document.querySelector("[data-rows]");
  const template = document.querySelector("[data-row-template]");
  rows.append(template.content.cloneNode(true));
  number(rows);
  showParts(button.form);
  rows.lastElementChild.querySelector("select").focus();
  changed(button.form.querySelector("[data-rows] select"));
}

function removeRow(button) {
  const { form } = button;
  const rows = button.closest("[data-rows]");
  button.closest("[data-row]").remove();
  number(rows);
  form.querySelector("[data-add-row]").focus();
  changed(form.querySelector("input"));
}

/** Name the rows by their position, as the server does. */
function number(rows) {
  [...rows.children].forEach((row, index) => {
    row.setAttribute("aria-label", texts.buttonNumber.replace("{n}", index + 1));
    for (const element of row.querySelectorAll("[data-id]")) {
      const id = `${element.dataset.id}-${index}`;
      const name = element.matches("label") ? "htmlFor" : "id";
      element[name] = id;
    }
    for (const element of row.querySelectorAll("[data-described]")) {
      element.setAttribute("aria-describedby", `error-button-${index}`);
    }
  });
}

function changed(input) {
  input?.dispatchEvent(new Event("input", { bubbles: true }));
}
