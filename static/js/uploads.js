// Uploads a file to the API.

import { texts } from "./interface_texts.js";

export const MOST_BYTES = 100 * 1024 * 1024;

const inUnits = (bytes) => `${(bytes / 1024 ** 2).toLocaleString(document.documentElement.lang, { maximumFractionDigits: 1 })} MB`;

/** Say why a file is too large for WhatsApp; "" if it is not. */
export function tooLarge(file) {
  if (file.size <= MOST_BYTES) return "";
  return texts.tooLarge.replace("{name}", file.name).replace("{size}", inUnits(file.size)).replace("{most}", inUnits(MOST_BYTES));
}

/**
 * Upload a file and return the request, to abort it. `stored` gets the API's upload, `failed` the
 * reason in words; an aborted upload calls neither. The bar shows the progress.
 */
export function upload(file, url, bar, { stored, failed }) {
  const request = new XMLHttpRequest();
  request.open("POST", url);
  request.responseType = "json";
  request.setRequestHeader("X-CSRFToken", document.querySelector("meta[name=csrf-token]").content);
  request.setRequestHeader("Accept-Language", document.documentElement.lang);
  request.upload.addEventListener("progress", (event) => {
    if (!event.lengthComputable) return;
    const percent = Math.floor((event.loaded / event.total) * 100);
    bar.value = percent;
    bar.ariaLabel = texts.uploading.replace("{name}", file.name).replace("{percent}", percent);
  });
  request.addEventListener("load", () => {
    bar.hidden = true;
    if (request.status === 201) stored(request.response);
    else failed(problem(file, request.response));
  });
  request.addEventListener("error", () => {
    bar.hidden = true;
    failed(texts.offline);
  });
  const body = new FormData();
  body.append("file", file);
  bar.hidden = false;
  request.send(body);
  return request;
}

function problem({ name }, response) {
  const { file, detail } = response ?? {};
  const words = file?.join(" ") || detail;
  return words ? `${name}: ${words}` : texts.uploadFailed.replace("{name}", name);
}
