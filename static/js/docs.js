// Starts Swagger UI. Requests made from the page use the signed-in user's session.

const root = document.getElementById("swagger-ui");
const token = document.querySelector("meta[name=csrf-token]").content;

SwaggerUIBundle({
  url: root.dataset.schemaUrl,
  domNode: root,
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [SwaggerUIBundle.plugins.DownloadUrl],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null,
  requestInterceptor(request) {
    const same = new URL(request.url, location.href).origin === location.origin;
    if (same && !request.headers.Authorization) request.headers["X-CSRFToken"] = token;
    return request;
  },
});
