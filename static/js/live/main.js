// Keeps a page up to date through one socket, whose frames replace or insert elements by key.
//
// Each part of the page names what it shows in data-watch ("conversation=7") and, in data-since, the
// time as of which it is up to date; the socket watches all parts.
// An element has data-live="message:<id>" and data-version; a list has data-live-list with the
// kinds of its elements, data-order ("asc" or "desc", by data-sort) and optionally data-max.
// After a reconnect, the server sends the changes since the time as of which the page is up to date.
// It sends changes whose push was lost with the next ping.

import { markFields } from "./fields.js";
import "./forms.js";
import { SILENCE_MS, Socket } from "./socket.js";

let socket = null;

/** Make the socket watch what the parts of the page request; a filtered list requests nothing. */
function connect() {
  const parts = [...document.querySelectorAll("[data-watch]")];
  const query = parts.map((part) => part.dataset.watch).sort().join("&");
  if (query === (socket?.query ?? "")) return;
  if (!query) {
    socket.stop();
    socket = null;
    return;
  }
  // Use the oldest part's time: the server may then repeat some changes.
  const moments = [socket?.since, ...parts.map((part) => part.dataset.since)].filter(Boolean);
  const since = moments.sort((one, other) => Date.parse(one) - Date.parse(other))[0];
  if (socket) socket.watch(query, since);
  else socket = new Socket(query, since);
}

const each = (act) => () => socket && act(socket);

markFields();
connect();
document.addEventListener("htmx:afterSettle", connect);
document.addEventListener("visibilitychange", each((socket) => document.hidden || socket.check()));
addEventListener("online", each((socket) => socket.check()));
addEventListener("offline", each((socket) => socket.socket && (socket.drop(), socket.later())));
addEventListener("pagehide", each((socket) => socket.stop()));
addEventListener("pageshow", (event) => event.persisted && each((socket) => socket.open())());
setInterval(each((socket) => socket.socket && socket.check()), SILENCE_MS / 6);
