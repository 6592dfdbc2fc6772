// Problems that belong to a field of the channel form.

/** Repeat a problem next to the field that fixes it, as long as a card shows it. */
export function markFields() {
  for (const repeated of document.querySelectorAll(".field-problem")) repeated.remove();
  for (const problem of document.querySelectorAll("[data-mended-by]")) {
    const input = document.getElementById(problem.dataset.mendedBy);
    const repeated = document.createElement("p");
    repeated.className = "errors field-problem";
    repeated.id = `${problem.dataset.mendedBy}_problem`;
    repeated.textContent = problem.textContent;
    input?.closest(".field")?.append(repeated);
    const ids = new Set((input?.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
    input?.setAttribute("aria-describedby", [...ids.add(repeated.id)].join(" "));
  }
}
