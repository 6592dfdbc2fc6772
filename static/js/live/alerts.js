// The open alerts of all channels. An alert is announced once per browser and can be dismissed there.

import { storeIds, storedIds } from "./stored_ids.js";

const list = document.querySelector("[data-alarms]");
const announcer = document.querySelector("[data-alarm-announcer]");
let alerts = [];

/** Show these alerts instead of the earlier ones. */
export function setAlerts(current) {
  alerts = current;
  showAlerts();
}

function focusPage() {
  document.querySelector("main[tabindex]")?.focus();
}

/** Show all open alerts that were not dismissed in this browser, and remove the others. */
function showAlerts() {
  if (!list) return;
  const dismissed = new Set(storedIds("alarms:dismissed"));
  const wanted = new Map(alerts.filter(({ id }) => !dismissed.has(id)).map((alert) => [String(alert.id), alert]));
  for (const element of [...list.children]) {
    if (!wanted.has(element.dataset.alarmId)) {
      if (element.contains(document.activeElement)) focusPage();
      element.remove();
    }
  }
  for (const [id, alert] of wanted) {
    const known = list.querySelector(`[data-alarm-id="${id}"]`);
    const template = document.createElement("template");
    template.innerHTML = alert.html;
    const fresh = template.content.firstElementChild;
    if (!known) list.append(fresh);
    else if (known.querySelector("p").textContent !== fresh.querySelector("p").textContent) {
      known.querySelector("p").replaceWith(fresh.querySelector("p"));
    }
  }
  const said = new Set(storedIds("alarms:said"));
  const unsaid = [...wanted.values()].filter(({ id }) => !said.has(id));
  if (unsaid.length) {
    announcer.textContent = unsaid.map(({ text }) => text).join("\n");
    storeIds("alarms:said", unsaid.map(({ id }) => id));
  }
}

list?.addEventListener("click", (event) => {
  const alert = event.target.closest("[data-dismiss]")?.closest("[data-alarm-id]");
  if (!alert) return;
  storeIds("alarms:dismissed", [Number(alert.dataset.alarmId)]);
  alert.remove(); // even if the dismissal cannot be stored
  const next = list.querySelector("[data-dismiss]");
  if (next) next.focus();
  else focusPage();
});
// Dismissed in another tab.
addEventListener("storage", (event) => event.key === "alarms:dismissed" && showAlerts());
