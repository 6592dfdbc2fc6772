// The player of a sound: play, a waveform in which to move, time and speed. One plays at a time, and
// the next voice message of the thread follows by itself.

import { texts } from "../interface_texts.js";
import { loudness } from "./loudness.js";

const SPEEDS = [1, 1.5, 2];
const BARS = 44;
const MANY_SECONDS = 3600;
let playing = null;

const clock = (seconds) => {
  const whole = Number.isFinite(seconds) && seconds < MANY_SECONDS ? Math.round(seconds) : 0;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

export function makePlayer(audio) {
  audio.dataset.player = "";
  audio.controls = false;
  const box = document.createElement("div");
  box.className = "player";
  const play = button("player-play", texts.play, "▶");
  const speed = button("player-speed", texts.speed, "1×");
  const time = Object.assign(document.createElement("span"), { className: "player-time" });
  const bars = Object.assign(document.createElement("canvas"), { className: "player-bars", width: BARS * 4, height: 28 });
  const place = Object.assign(document.createElement("input"), { type: "range", className: "player-place", min: 0, max: 1000, value: 0 });
  place.ariaLabel = texts.position;
  const middle = Object.assign(document.createElement("span"), { className: "player-middle" });
  middle.append(bars, place);
  audio.before(box);
  box.append(play, middle, time, speed, audio);
  let heights = null;

  const draw = () => {
    const done = audio.duration ? audio.currentTime / audio.duration : 0;
    const context = bars.getContext("2d");
    const { color, accentColor } = getComputedStyle(bars);
    context.clearRect(0, 0, bars.width, bars.height);
    for (let n = 0; n < BARS; n += 1) {
      const height = Math.max(3, (heights ? heights[n] : 0.15) * bars.height);
      context.fillStyle = n / BARS < done ? accentColor : color;
      context.fillRect(n * 4, (bars.height - height) / 2, 2.5, height);
    }
    time.textContent = clock(audio.paused && !audio.currentTime ? audio.duration : audio.currentTime);
    place.value = String(Math.round(done * 1000));
    place.ariaValueText = clock(audio.currentTime);
  };

  play.addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
  speed.addEventListener("click", () => {
    audio.playbackRate = SPEEDS[(SPEEDS.indexOf(audio.playbackRate) + 1) % SPEEDS.length];
    speed.firstChild.textContent = `${audio.playbackRate}×`;
  });
  place.addEventListener("input", () => {
    if (audio.duration) audio.currentTime = (Number(place.value) / 1000) * audio.duration;
  });
  audio.addEventListener("play", () => {
    if (playing && playing !== audio) playing.pause();
    playing = audio;
    say(play, texts.pause, "❚❚");
  });
  audio.addEventListener("pause", () => say(play, texts.play, "▶"));
  audio.addEventListener("ended", () => {
    audio.currentTime = 0;
    following(audio)?.play();
  });
  for (const event of ["timeupdate", "loadedmetadata", "durationchange", "seeked"]) audio.addEventListener(event, draw);
  // The file cannot be played here: the browser's own controls say so.
  audio.addEventListener("error", () => {
    box.replaceWith(audio);
    audio.controls = true;
  });
  draw();
  new IntersectionObserver(async ([{ isIntersecting }], seen) => {
    if (!isIntersecting) return;
    seen.disconnect();
    heights = await loudness(audio, BARS);
    draw();
  }).observe(box);
}

function button(className, name, shown) {
  const made = Object.assign(document.createElement("button"), { type: "button", className });
  made.append(shown);
  say(made, name, shown);
  return made;
}

function say(made, name, shown) {
  made.ariaLabel = name;
  made.title = name;
  made.firstChild.textContent = shown;
}

/** Return the sound of the message right after this one, if there is one. */
function following(audio) {
  const next = audio.closest("article")?.nextElementSibling;
  return next?.matches("article.message-in") ? next.querySelector("audio[data-player]") : null;
}
