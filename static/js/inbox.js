// The list beside every conversation: its filters go with the person, its place is kept, and only the
// rows that its tab shows stay in it. The panel of the contact opens and closes.

const pane = () => document.getElementById("list");
const query = () => pane()?.dataset.query ?? "";
const placeKey = () => `list:${query()}`;

// A row leads to its conversation; the filters stay as they are.
document.addEventListener("click", (event) => {
  const row = event.target.closest(".pane-list a.row, [data-to-list]");
  if (!row) return;
  const search = new URLSearchParams(query());
  const message = new URLSearchParams(row.search).get("message");
  if (message) search.set("message", message);
  row.search = search;
  remember();
}, true);

function remember() {
  try {
    sessionStorage.setItem(placeKey(), String(pane().scrollTop));
  } catch {
    // The list then starts at its top.
  }
}

function restore() {
  const stored = Number(sessionStorage.getItem(placeKey()) ?? 0);
  if (stored) pane().scrollTop = stored;
  const current = pane().querySelector('.row[aria-current="page"]');
  const list = pane();
  if (!current) return;
  const { offsetTop: top, offsetHeight: height } = current;
  if (top < list.scrollTop || top + height > list.scrollTop + list.clientHeight) {
    current.scrollIntoView({ block: "nearest" });
  }
}

if (pane()) restore();

// --- the contact ---------------------------------------------------------------------------------

const panel = document.querySelector("[data-panel]");
const CLOSED = "panel:closed";
const wide = matchMedia("(min-width: 75.01rem)");

function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function setPanel(open) {
  panel.classList.toggle("is-open", open);
  panel.classList.toggle("is-closed", !open);
  for (const button of document.querySelectorAll("[data-panel-toggle]")) button.ariaExpanded = String(open);
}

if (panel) {
  setPanel(wide.matches && !stored(CLOSED));
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-panel-toggle]")) return;
    const open = !panel.classList.contains("is-open");
    setPanel(open);
    if (!wide.matches) return;
    try {
      if (open) localStorage.removeItem(CLOSED);
      else localStorage.setItem(CLOSED, "1");
    } catch {
      // It is then open on the next page again.
    }
  });
  wide.addEventListener("change", () => setPanel(wide.matches && !stored(CLOSED)));
}

// "/" begins a search, as the hint in the field says; in a text it is a character.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const search = document.getElementById("id_search");
  if (!search?.offsetParent) return;
  event.preventDefault();
  search.focus();
  search.select();
});
