// What helps to write in a conversation. Each module attaches itself to the composer.

import { attachDraft } from "./draft.js";
import { attachEmoji } from "./emoji.js";
import { attachFormatting } from "./formatting.js";
import { attachKeys } from "./keys.js";
import { attachMenu } from "./menu.js";
import { attachQuickReplies } from "./quick.js";
import { attachQuote } from "./quote.js";
import { attachVoice } from "./voice.js";

const form = document.querySelector("[data-composer]");
const text = form?.querySelector("textarea");
if (text && !text.disabled) {
  attachDraft(form, text);
  attachQuickReplies(form, text);
  attachFormatting(text);
  attachQuote(form, text);
  attachVoice(form);
  attachEmoji(form, text);
}
if (form) {
  attachMenu(form);
  attachKeys();
}
