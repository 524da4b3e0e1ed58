// Keeps the parts of a page with `data-live` current: it loads the page again and replaces these parts.
// It stops while the page is hidden, while the box "Live" is off, and while a part has the focus.

const INTERVAL = 2000;
const box = document.getElementById("live");
const parts = [...document.querySelectorAll("[data-live]")];

async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
  if (answer.type === "opaqueredirect") {
    // The session has ended: the browser goes to the page to sign in.
    location.reload();
    return;
  }
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts) {
    const fresh = page.getElementById(part.id);
    if (fresh && !part.contains(document.activeElement) && fresh.innerHTML !== part.innerHTML) {
      part.replaceChildren(...fresh.childNodes);
    }
  }
}

async function run() {
  if (!document.hidden && box.checked) {
    try {
      await refresh();
    } catch {
      // The gateway does not answer now; the next attempt may succeed.
    }
  }
  setTimeout(run, INTERVAL);
}

if (box && parts.length) setTimeout(run, INTERVAL);

// A form with `data-stream` is sent in the background. The answer has events with texts: each is shown in the element
// whose `data-out` has the names of the event and of the text. Texts of the event "data" are appended.

const form = document.querySelector("form[data-stream]");
const outs = new Map([...document.querySelectorAll("[data-out]")].map((element) => [element.dataset.out, element]));

function show(block) {
  const [first, second] = block.split("\n");
  const name = first.slice("event: ".length);
  for (const [field, text] of Object.entries(JSON.parse(second.slice("data: ".length)))) {
    const out = outs.get(`${name}.${field}`);
    if (!out) continue;
    if (name === "data") out.append(text);
    else out.textContent = text;
    if (out instanceof HTMLAnchorElement) {
      out.href = `${form.action.replace(/playground$/, "requests/")}${encodeURIComponent(text)}`;
      out.hidden = !text;
    }
  }
}

async function send() {
  for (const out of outs.values()) {
    out.textContent = "";
    if (out instanceof HTMLAnchorElement) out.hidden = true;
  }
  const answer = await fetch(form.action, {
    method: "POST",
    headers: { accept: "text/event-stream" },
    body: new URLSearchParams(new FormData(form)),
    redirect: "manual",
  });
  if (answer.type === "opaqueredirect") {
    location.reload();
    return;
  }
  if (!(answer.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    outs.get("error.message").textContent = page.querySelector("main")?.textContent.trim() ?? "";
    return;
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    waiting += part.value;
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    blocks.forEach(show);
  }
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await send();
  } catch {
    outs.get("error.message").textContent = "The gateway does not answer.";
  }
  button.disabled = false;
});
