// The dialog that shows fetched content.

document.addEventListener("htmx:afterSwap", (event) => {
  const { target } = event.detail;
  if (target.matches?.("[data-dialog]") && !target.open) target.showModal();
});
document.addEventListener("dialog:close", () => document.querySelector("[data-dialog]")?.close());
document.addEventListener("click", (event) => {
  const dialog = event.target.closest("[data-dialog]");
  if (dialog && (event.target === dialog || event.target.closest("[data-close-dialog]"))) {
    dialog.close();
  }
});
document.addEventListener("close", (event) => {
  if (event.target.matches("[data-dialog]")) event.target.replaceChildren();
}, true); // does not bubble
