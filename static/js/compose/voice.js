// A voice message: recorded as Ogg Opus in every browser (vendor/opus-recorder, an audio worklet),
// listened to before it is sent, and sent as a file by ../files.js.

import { texts } from "./texts.js";

const MOST_SECONDS = 15 * 60;
// Of a voice message of up to 4 minutes WhatsApp's play icon is certain: 512 KB.
const BITS_PER_SECOND = 16_000;

class Recording {
  async begin(encoder) {
    this.pages = [];
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true },
    });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule(encoder);
    this.node = new AudioWorkletNode(this.context, "encoder-worklet", { numberOfOutputs: 0 });
    this.source = this.context.createMediaStreamSource(this.stream);
    await new Promise((resolve, reject) => {
      this.node.onprocessorerror = reject;
      this.node.port.onmessage = ({ data }) => this.answered(data, resolve);
      this.node.port.postMessage({
        command: "init",
        originalSampleRate: this.context.sampleRate,
        encoderApplication: 2048, // voice
        encoderBitRate: BITS_PER_SECOND,
        encoderComplexity: 5,
        encoderFrameSize: 20,
        encoderSampleRate: 48000,
        maxFramesPerPage: 40,
        numberOfChannels: 1,
        resampleQuality: 3,
        bufferLength: 4096,
      });
    });
    this.node.port.postMessage({ command: "getHeaderPages" });
    this.source.connect(this.node);
    await this.context.resume();
  }

  answered(data, ready) {
    if (data.message === "ready") ready();
    else if (data.message === "page") this.pages.push(data.page);
    else if (data.message === "done") this.ended?.();
  }

  pause() {
    this.source.disconnect();
  }

  resume() {
    this.source.connect(this.node);
  }

  /** Return the recording as a file. */
  async finish() {
    const done = new Promise((resolve) => { this.ended = resolve; });
    this.node.port.postMessage({ command: "done" });
    await done;
    this.release();
    return new File(this.pages, "voice.ogg", { type: "audio/ogg" });
  }

  release() {
    this.node?.port.postMessage({ command: "close" });
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
  }
}

export function attachVoice(form) {
  const panel = form.querySelector("[data-voice-panel]");
  const part = (name) => panel.querySelector(`[data-voice-${name}]`);
  const [time, pause] = [part("time"), part("pause")];
  const audio = document.createElement("audio");
  audio.controls = true;
  audio.hidden = true;
  part("audio").append(audio);
  const error = form.querySelector("[data-error]");
  let recording = null;
  let file = null;
  let paused = false;
  let seconds = 0;
  let clock = null;

  function tick() {
    if (!paused) seconds += 1;
    time.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    if (seconds >= MOST_SECONDS) listen();
  }

  function reset() {
    clearInterval(clock);
    URL.revokeObjectURL(audio.src);
    audio.removeAttribute("src");
    audio.hidden = true;
    recording = null;
    file = null;
    panel.hidden = true;
    form.classList.remove("is-recording");
    form.querySelector("textarea").focus();
  }

  async function start() {
    if (recording || file) return;
    error.textContent = "";
    if (!navigator.mediaDevices || !window.AudioWorkletNode) {
      error.textContent = texts.micInsecure;
      return;
    }
    const begun = new Recording();
    recording = begun;
    try {
      await begun.begin(form.dataset.encoder);
    } catch (problem) {
      begun.release();
      recording = null;
      const denied = problem?.name === "NotAllowedError";
      const missing = problem?.name === "NotFoundError";
      error.textContent = denied ? texts.micDenied : missing ? texts.micMissing : texts.recordingFailed;
      return;
    }
    seconds = -1;
    paused = false;
    tick();
    clock = setInterval(tick, 1000);
    pause.hidden = part("listen").hidden = false;
    pause.textContent = texts.pause;
    panel.hidden = false;
    form.classList.add("is-recording");
    part("send").focus();
  }

  async function finish() {
    clearInterval(clock);
    if (recording) {
      const ended = recording;
      recording = null;
      file = await ended.finish();
    }
    return file;
  }

  async function listen() {
    const made = await finish();
    pause.hidden = part("listen").hidden = true;
    audio.src = URL.createObjectURL(made);
    audio.hidden = false;
    audio.focus();
  }

  form.querySelector("[data-voice]").addEventListener("click", start);
  part("cancel").addEventListener("click", () => {
    recording?.release();
    reset();
  });
  pause.addEventListener("click", () => {
    paused = !paused;
    if (paused) recording.pause();
    else recording.resume();
    pause.textContent = paused ? texts.resume : texts.pause;
    panel.classList.toggle("is-paused", paused);
  });
  part("listen").addEventListener("click", listen);
  part("send").addEventListener("click", async () => {
    const made = await finish();
    reset();
    form.dispatchEvent(new CustomEvent("compose:voice", { detail: made }));
  });
  addEventListener("pagehide", () => recording?.release());
}
