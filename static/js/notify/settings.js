// The choices of notifications. The browser asks for consent only after a click.

import { choose, chosen } from "./choices.js";
import { play } from "./sound.js";

const RENEWED = "push:renewed";
const card = document.querySelector("[data-notify-settings]");
const status = card?.querySelector("[data-notify-status]");
const box = (name) => card.querySelector(`[data-choice="${name}"]`);

function say(name) {
  status.textContent = name ? status.dataset[name] : "";
}

async function consent() {
  if (!globalThis.Notification) {
    say("unsupported");
    return false;
  }
  const answer = await Notification.requestPermission();
  say(answer === "granted" ? "" : "denied");
  return answer === "granted";
}

async function post(data) {
  const response = await fetch("/notifications/push/", {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "X-CSRFToken": document.querySelector('meta[name="csrf-token"]').content,
    },
    body: JSON.stringify(data),
  });
  if (!response.ok) throw new Error(String(response.status));
}

async function subscription() {
  const worker = await navigator.serviceWorker?.getRegistration("/");
  return (await worker?.pushManager?.getSubscription()) ?? null;
}

async function startPush() {
  if (!navigator.serviceWorker || !globalThis.PushManager) {
    say("unsupported");
    return false;
  }
  if (!(await consent())) return false;
  const worker = await navigator.serviceWorker.ready;
  const started = await worker.pushManager.subscribe({
    userVisibleOnly: true,
    applicationServerKey: box("push").dataset.key,
  });
  await post({ ...started.toJSON(), private: chosen("private") });
  return true;
}

async function endPush() {
  const current = await subscription();
  if (!current) return;
  await post({ endpoint: current.endpoint, end: true });
  await current.unsubscribe();
}

/** A subscription belongs to the session of a sign-in: state it again once in each. */
export async function renewPush() {
  if (!chosen("push") || sessionStorage.getItem(RENEWED)) return;
  const current = await subscription();
  if (current) await post({ ...current.toJSON(), private: chosen("private") });
  else choose("push", false); // the browser has ended it
  sessionStorage.setItem(RENEWED, "1");
}

const APPLY = {
  sound: async (on) => on,
  desktop: async (on) => on && consent(),
  push: async (on) => (on ? startPush() : endPush().then(() => false)),
  private: async (on) => {
    choose("private", on);
    const current = await subscription();
    if (current && chosen("push")) await post({ ...current.toJSON(), private: on });
    return on;
  },
};

if (card) {
  for (const one of card.querySelectorAll("[data-choice]")) one.checked = chosen(one.dataset.choice);
  card.addEventListener("change", async ({ target }) => {
    const { choice } = target.dataset;
    if (!choice) return;
    target.disabled = true;
    try {
      target.checked = Boolean(await APPLY[choice](target.checked));
    } catch {
      target.checked = chosen(choice);
      say("failed");
    }
    choose(choice, target.checked);
    target.disabled = false;
  });
  card.querySelector("[data-try-sound]").addEventListener("click", () => play());
}
