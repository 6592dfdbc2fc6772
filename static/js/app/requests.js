// htmx requests: the CSRF token, and a toast for a failed request.

import { texts } from "../interface_texts.js";
import { toast } from "./toasts.js";

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRFToken"] = document.querySelector("meta[name=csrf-token]").content;
});

document.addEventListener("htmx:responseError", (event) => {
  if (event.target.closest("[data-composer]")) return; // shows the error beside the text
  if (event.target.closest("[data-polls]")) return; // retries automatically
  if (event.target.closest("[data-work], [data-menu-form], [data-note-form], [data-panel-body]") && event.detail.xhr.status === 400) return; // ../work.js
  if (event.target.closest("[data-checked]") && event.detail.xhr.status === 400) return; // shows its errors
  if (event.detail.xhr.status !== 401) toast(texts.requestFailed, "error");
});

document.addEventListener("htmx:sendError", (event) => {
  if (!event.target.closest("[data-composer], [data-polls], #summary, [data-window]")) {
    toast(texts.requestFailed, "error");
  }
});
