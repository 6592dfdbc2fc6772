// Figures that no frame contains.

let refreshTimer = null;

/** Reload the figures that no frame contains, at most every two seconds. */
export function refreshSoon() {
  refreshTimer ??= setTimeout(() => {
    refreshTimer = null;
    window.htmx?.trigger(document.body, "alterna:refresh"); // the admin site has no htmx
  }, 2000);
}
