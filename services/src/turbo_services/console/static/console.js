// Little and plain: every page works without it, except the live log.
"use strict";

for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.confirm)) event.preventDefault();
  });
}

// The part of an environment's page that changes is fetched again while somebody looks at it.
const REFRESH_MS = 3000;
async function refresh() {
  const part = document.querySelector("[data-refresh]");
  if (!part || document.hidden) return;
  try {
    const answer = await fetch(part.dataset.refresh);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-refresh]");
    if (fresh) part.replaceChildren(...fresh.childNodes);
    else window.location.reload();
  } catch {
    // The console itself is away; the next round tries again.
  }
}
if (document.querySelector("[data-refresh]")) window.setInterval(refresh, REFRESH_MS);

const log = document.querySelector("[data-log]");
if (log) {
  const state = document.querySelector("#log-state");
  const events = new EventSource(log.dataset.log);
  events.addEventListener("log", (event) => {
    const line = JSON.parse(event.data);
    log.append(`${line.time.slice(11, 23)}  ${line.step.padEnd(8)}  ${line.message}\n`);
    log.scrollTop = log.scrollHeight;
    state.textContent = "live";
  });
  events.addEventListener("problem", (event) => {
    state.textContent = `The log cannot be read: ${event.data}. Trying again.`;
  });
  events.addEventListener("done", (event) => {
    state.textContent = `complete: ${JSON.parse(event.data).status}`;
    events.close();
  });
}
