// The connection to the server, reopened when it is lost.

import { setAlerts } from "./alerts.js";
import { show } from "./elements.js";
import { refreshSoon } from "./refresh.js";

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 10_000;
export const SILENCE_MS = 60_000; // the server pings every 25 s
const HINT_AFTER_MS = 400;
const NOT_ALLOWED = 4003; // signed out, or the user's permission was removed
const hint = document.querySelector("[data-connection]");

let current = null;

/** Say something to the server, if it can be said now: what is lost is repeated by whoever says it. */
export function send(frame) {
  if (current?.socket?.readyState === WebSocket.OPEN) current.socket.send(JSON.stringify(frame));
}

export class Socket {
  constructor(query, since) {
    this.tries = 0;
    current = this;
    this.watch(query, since);
  }

  watch(query, since) {
    this.query = query;
    this.since = since;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.drop();
    const url = new URL(`/ws/live/?${this.query}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (this.since) url.searchParams.set("since", this.since);
    const socket = new WebSocket(url);
    this.socket = socket;
    this.receivedAt = Date.now();
    socket.onmessage = (event) => this.frame(JSON.parse(event.data));
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      if (code === NOT_ALLOWED) location.reload(); // shows the login page or the reason
      else this.later();
    };
  }

  frame(frame) {
    this.receivedAt = Date.now();
    if (frame.kind === "reload") {
      location.reload();
      return;
    }
    if (frame.html) {
      show(frame.html, frame.version);
      refreshSoon();
    }
    document.dispatchEvent(new CustomEvent("alterna:frame", { detail: frame }));
    if (frame.kind === "refresh") refreshSoon();
    if (frame.kind === "alarms") {
      if (this.receivedAlerts) refreshSoon();
      this.receivedAlerts = true;
      setAlerts(frame.alarms);
    }
    if (frame.kind === "ready") {
      if (this.lost) refreshSoon();
      this.lost = false;
      this.tries = 0;
      this.hint(false);
      document.dispatchEvent(new Event("alterna:times"));
      document.dispatchEvent(new Event("alterna:ready"));
    }
    // Only these frames prove the page up to date: a push before another frame may have been lost.
    if (frame.kind === "ready" || frame.kind === "ping") this.since = frame.at;
  }

  later() {
    this.socket = null;
    this.lost = true;
    this.hint(true);
    const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** this.tries);
    this.tries += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), most * (0.5 + Math.random() / 2));
  }

  /** Check the connection when it may work again or may have failed silently. */
  check() {
    const silent = Date.now() - this.receivedAt > SILENCE_MS;
    if (!this.socket) {
      this.tries = 0;
      this.open();
    } else if (silent) {
      this.drop();
      this.later();
    }
  }

  drop() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  stop() {
    clearTimeout(this.timer);
    this.drop();
    this.hint(false);
  }

  hint(lost) {
    clearTimeout(this.hintTimer);
    if (lost) this.hintTimer = setTimeout(() => (hint.hidden = false), HINT_AFTER_MS);
    else hint.hidden = true;
  }
}
