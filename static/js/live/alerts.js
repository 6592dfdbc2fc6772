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
  for (const element of list.querySelectorAll("[data-alarm-id]")) {
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
  groupAlerts([...wanted.values()]);
  for (const dot of document.querySelectorAll("[data-alarm-dot]")) dot.hidden = !alerts.length;
  const said = new Set(storedIds("alarms:said"));
  const unsaid = [...wanted.values()].filter(({ id }) => !said.has(id));
  if (unsaid.length) {
    announcer.textContent = unsaid.map(({ text }) => text).join("\n");
    storeIds("alarms:said", unsaid.map(({ id }) => id));
  }
}

/** Show several alerts of one kind as one line, which opens to all of them. */
function groupAlerts(wanted) {
  const element = (id) => list.querySelector(`[data-alarm-id="${id}"]`);
  for (const [group, members] of grouped(wanted)) {
    const known = list.querySelector(`[data-alarm-group="${CSS.escape(group)}"]`);
    if (members.length === 1) {
      if (known) known.replaceWith(element(members[0].id));
      continue;
    }
    const box = known ?? newGroup(group, element(members[0].id));
    box.querySelector(".alarm-count").textContent = members.length;
    box.querySelector(".alarm-kind").textContent = members[0].headline;
    for (const { id } of members) if (element(id).parentElement !== box) box.append(element(id));
  }
  for (const box of list.querySelectorAll("[data-alarm-group]")) {
    if (!box.querySelector("[data-alarm-id]")) box.remove();
  }
}

function grouped(wanted) {
  const groups = new Map();
  for (const alert of wanted) groups.set(alert.group, [...(groups.get(alert.group) ?? []), alert]);
  return groups;
}

function newGroup(group, first) {
  const box = document.createElement("details");
  const line = document.createElement("summary");
  const count = Object.assign(document.createElement("strong"), { className: "alarm-count" });
  const kind = Object.assign(document.createElement("span"), { className: "alarm-kind" });
  box.className = "alarm-group";
  box.dataset.alarmGroup = group;
  line.append(first.querySelector(".glyph").cloneNode(true), count, " ", kind);
  box.append(line);
  first.before(box);
  return box;
}

list?.addEventListener("click", (event) => {
  const alert = event.target.closest("[data-dismiss]")?.closest("[data-alarm-id]");
  if (!alert) return;
  storeIds("alarms:dismissed", [Number(alert.dataset.alarmId)]);
  alert.remove(); // even if the dismissal cannot be stored
  showAlerts();
  const next = list.querySelector("[data-dismiss]");
  if (next) next.focus();
  else focusPage();
});
// Dismissed in another tab.
addEventListener("storage", (event) => event.key === "alarms:dismissed" && showAlerts());
