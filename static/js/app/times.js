// Relative times and day labels, updated while the page is open.

import { texts } from "../interface_texts.js";

const language = document.documentElement.lang;
const isoDay = new Intl.DateTimeFormat("en-CA", {
  timeZone: texts.timeZone, year: "numeric", month: "2-digit", day: "2-digit",
});
const shortDate = new Intl.DateTimeFormat(language, {
  timeZone: texts.timeZone, year: "numeric", month: "2-digit", day: "2-digit",
});
const longDate = new Intl.DateTimeFormat(language, { timeZone: "UTC", dateStyle: "long" });
const DAY_MS = 24 * 3600 * 1000;
const HALF_A_DAY = 12 * 3600; // seconds

/** Uses the same texts as `relative` in templatetags/times.py. */
function relative(moment, now) {
  const seconds = (now - moment) / 1000;
  if (seconds < 60) return texts.now;
  if (seconds < 3600) return texts.minutes.replace("{n}", Math.floor(seconds / 60));
  if (seconds < HALF_A_DAY || isoDay.format(moment) === isoDay.format(now)) {
    return texts.hours.replace("{n}", Math.floor(seconds / 3600));
  }
  if (isoDay.format(moment) === isoDay.format(now - DAY_MS)) return texts.yesterday;
  return shortDate.format(moment);
}

function dayLabel(day) {
  const now = Date.now();
  if (day === isoDay.format(now)) return texts.dayToday;
  if (day === isoDay.format(now - DAY_MS)) return texts.dayYesterday;
  return longDate.format(new Date(`${day}T00:00:00Z`));
}

function refreshTimes() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-relative]")) {
    const words = relative(Date.parse(element.dateTime), now);
    if (words !== element.textContent) element.textContent = words;
  }
  for (const element of document.querySelectorAll("[data-day-label]")) {
    const words = dayLabel(element.dataset.dayLabel);
    if (words !== element.textContent) element.textContent = words;
  }
}

setInterval(refreshTimes, 30_000);
document.addEventListener("visibilitychange", () => document.hidden || refreshTimes());
document.addEventListener("alterna:times", refreshTimes);
