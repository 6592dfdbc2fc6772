// The responses to forms.

import { show } from "./elements.js";

// A form's response is an element like those of the socket, and may arrive after a newer one.
document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, successful, xhr } = event.detail;
  if (successful && elt.closest("[data-live-response]")) {
    const answer = document.createElement("template");
    answer.innerHTML = xhr.responseText;
    for (const element of answer.content.children) {
      show(element.outerHTML, undefined, { mine: elt.matches("form") });
    }
  }
});
