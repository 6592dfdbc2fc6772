// The message that the next one answers.

export function setQuote(form, message) {
  form.dispatchEvent(new CustomEvent("compose:quote", { detail: message }));
}

export function attachQuote(form, text) {
  const bar = form.querySelector("[data-quote]");
  const field = form.elements.reply_to;

  function show(message) {
    field.value = message?.dataset.message ?? "";
    bar.hidden = !message;
    if (message) {
      bar.querySelector("[data-quote-text]").textContent = message.dataset.preview;
      text.focus();
    }
    // Another quote is another message.
    text.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }

  form.addEventListener("compose:quote", (event) => show(event.detail));
  form.querySelector("[data-unquote]").addEventListener("click", () => {
    show(null);
    text.focus();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && field.value) show(null);
  });
  form.addEventListener("htmx:afterRequest", (event) => {
    if (event.target !== form || !event.detail.successful) return;
    field.value = "";
    bar.hidden = true;
  });
}
