// The separators between the days of a conversation, and which messages stand together.

/** Ensure that each day has one separator, before its first message. */
export function tidyDays() {
  const list = document.querySelector('[data-live-list~="message"], [data-live-list-later~="message"]');
  let day = null;
  for (const node of [...(list?.children ?? [])]) {
    const label = node.dataset.dayLabel;
    if (label) {
      if (label === day || node.nextElementSibling?.dataset.day !== label) node.remove();
    } else if (node.dataset.day && node.dataset.day !== day) {
      day = node.dataset.day;
      if (node.previousElementSibling?.dataset.dayLabel !== day) node.before(separator(day));
    }
  }
  tidyAuthors(list);
  document.dispatchEvent(new Event("alterna:times"));
}

/** Messages that follow each other under one author stand close together, with the name once. */
function tidyAuthors(list) {
  let before = null;
  for (const node of list?.children ?? []) {
    const author = node.dataset.author ?? null;
    node.classList.toggle("is-follow", author !== null && author === before);
    before = author;
  }
}

function separator(day) {
  const element = document.createElement("p");
  element.className = "day";
  element.dataset.dayLabel = day;
  return element;
}
