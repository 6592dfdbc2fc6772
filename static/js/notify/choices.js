// What a person chose for this browser. All of it is off at first.

const PREFIX = "alterna_";

export function chosen(name) {
  return document.cookie.split("; ").includes(`${PREFIX}${name}=1`);
}

export function choose(name, on) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${PREFIX}${name}=${on ? 1 : ""}; Path=/; SameSite=Lax; Max-Age=${on ? 31_536_000 : 0}${secure}`;
}
