// Which rows belong to the tab of the list, as messaging/inbox/lists.py decides for a new page.

const SHOWN = {
  all: (row) => row.status === "open",
  mine: (row, list) => row.status === "open" && row.assignee === list.user,
  // Only the server knows; those that are shown stay.
  mentions: (row) => document.querySelector(`.pane-list [data-live="${CSS.escape(row.live)}"]`) !== null,
  unread: (row) => "unread" in row,
  unassigned: (row) => row.status === "open" && !row.assignee,
  problem: (row) => "problem" in row,
  snoozed: (row) => row.status === "snoozed",
  resolved: (row) => row.status === "resolved",
};

/** Return whether a row of conversations belongs to a list. A list without a tab shows all. */
export function belongs(list, element) {
  const row = element.dataset;
  const { tab, channel, label } = list.dataset;
  if (!tab) return true;
  if (channel && channel !== row.channel) return false;
  if (label && !row.labels.split("\n").includes(label)) return false;
  return SHOWN[tab](row, list.dataset);
}

/** Return what a list is sorted by. In "all" those that nobody has are first. */
export function sortKey(list, element) {
  const { sort, assignee } = element.dataset;
  return list.dataset.tab === "all" ? `${assignee ? 0 : 1} ${sort}` : sort;
}
