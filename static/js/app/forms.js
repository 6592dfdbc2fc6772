// Plain forms: one submission per click, focus on a rejected field, and pop-up windows.

// Prevents a double click from submitting a form twice.
document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-once]")) {
    event.target.querySelectorAll("button:not([type=button])").forEach((b) => (b.disabled = true));
  }
});
addEventListener("pageshow", () => {
  document.querySelectorAll("[data-once] button").forEach((b) => (b.disabled = false));
});

// Focus the field that the server rejected.
document.querySelector(".field [aria-invalid=true]")?.focus();

// The response to such a form opens in its own window beside the page, or in a new tab without this
// script or if pop-ups are blocked.
document.addEventListener("submit", (event) => {
  const name = event.target.dataset.smallWindow;
  if (!name) return;
  const small = window.open("", name, "popup,width=500,height=700");
  event.target.target = small ? name : "_blank";
  if (small) small.opener = null; // the window shows an external page
});
