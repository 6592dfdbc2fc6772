// Behavior shared by all pages. Each module attaches its own listeners.

import "./requests.js";
import "./toasts.js";
import "./clipboard.js";
import "./menus.js";
import "./forms.js";
import "./dialog.js";
import "./times.js";
import "./composer.js";
