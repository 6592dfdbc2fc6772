// Short notices in the corner of the page.

const TOAST_MS = 7000;

export function toast(text, level = "info") {
  const template = document.querySelector("[data-toast-template]");
  const element = template.content.firstElementChild.cloneNode(true);
  element.classList.add(`toast-${level}`);
  element.querySelector("p").textContent = text;
  document.querySelector("[data-toasts]").append(element);
  goAway(element);
}

function goAway(element) {
  // An error stays until it is closed.
  if (element.matches(".toast-error, .toast-warning")) return;
  setTimeout(() => element.remove(), TOAST_MS);
}

document.querySelectorAll("[data-toasts] .toast").forEach(goAway);

document.addEventListener("toast", (event) => toast(event.detail.text, event.detail.level));

document.addEventListener("click", (event) => {
  event.target.closest("[data-close]")?.closest(".toast").remove();
});
