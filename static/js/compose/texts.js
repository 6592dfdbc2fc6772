// The translated texts of the composer.

export const texts = JSON.parse(document.getElementById("compose-texts")?.textContent ?? "{}");
