// Buttons that copy a text, and texts that are selected when focused.

import { texts } from "../interface_texts.js";
import { toast } from "./toasts.js";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copyFrom(document.querySelector(button.dataset.copy));
});

document.addEventListener("focusin", (event) => {
  if (event.target.matches("[data-select]")) event.target.select();
});

async function copyFrom(input) {
  input.select();
  try {
    // Without TLS the clipboard API is missing; the old command still works.
    if (navigator.clipboard) await navigator.clipboard.writeText(input.value);
    else if (!document.execCommand("copy")) throw new Error("refused");
    toast(texts.copied);
  } catch {
    toast(texts.copyFailed, "error");
  }
}
