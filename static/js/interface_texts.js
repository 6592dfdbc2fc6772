// The translated texts that the page gives the scripts.

export const texts = JSON.parse(document.getElementById("interface-texts").textContent);
