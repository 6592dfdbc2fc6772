// Receives pushes, and shows a page that says so when there is no connection. It keeps nothing else:
// a conversation is always the server's.

const OFFLINE = "/offline/";
const CACHE = "alterna-offline-1";

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.add(new Request(OFFLINE, { cache: "reload" }))));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => names.filter((name) => name !== CACHE).map((name) => caches.delete(name)));
  event.waitUntil(Promise.all([old, self.clients.claim()]));
});

self.addEventListener("fetch", (event) => {
  if (event.request.mode !== "navigate" || event.request.method !== "GET") return;
  event.respondWith(fetch(event.request).catch(async () => (await caches.match(OFFLINE)) ?? Response.error()));
});

self.addEventListener("push", (event) => event.waitUntil(show(event.data?.json() ?? {})));

async function show({ title = "Alterna", body = "", tag = "alterna", url = "/conversations/" }) {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  // It is being read.
  if (pages.some((page) => page.focused && new URL(page.url).pathname === url)) return;
  await self.registration.showNotification(title, { body, tag, renotify: true, data: { url }, icon: "{{ icon }}", badge: "{{ icon }}" });
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.url ?? "/conversations/"));
});

async function open(url) {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((one) => new URL(one.url).pathname === url) ?? pages[0];
  if (!page) return self.clients.openWindow(url);
  await page.focus();
  if (new URL(page.url).pathname !== url) page.postMessage({ open: url });
}
