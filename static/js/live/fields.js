// Problems that belong to a field of the channel form.

/** Repeat a problem next to the field that fixes it, as long as a card shows it. */
export function markFields() {
  for (const repeated of document.querySelectorAll(".field-trouble")) repeated.remove();
  for (const trouble of document.querySelectorAll("[data-mended-by]")) {
    const input = document.getElementById(trouble.dataset.mendedBy);
    const repeated = document.createElement("p");
    repeated.className = "errors field-trouble";
    repeated.id = `${trouble.dataset.mendedBy}_trouble`;
    repeated.textContent = trouble.textContent;
    input?.closest(".field")?.append(repeated);
    const ids = new Set((input?.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
    input?.setAttribute("aria-describedby", [...ids.add(repeated.id)].join(" "));
  }
}
