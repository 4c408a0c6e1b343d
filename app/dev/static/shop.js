// A shop's whole conversation with onelane: ask for a checkout, follow it, send the buyer to pay, watch access change.
// The server that rendered this page put a short-lived token for the signed-in user into <body data-token>.
const { token } = document.body.dataset;
const find = (selector) => document.querySelector(selector);
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const cameBack = new URLSearchParams(location.search);
const kindWords = {
  already_subscribed: "You already have a subscription, so there is nothing to pay.",
  payment_in_progress: "An earlier payment of yours is still being settled. Please give it a moment.",
  superseded: "You chose another plan in the meantime; that one counts.",
  stripe_unavailable: "Payments cannot be reached just now. Please try again in a minute.",
  rate_limited: "That was a lot of clicks. Please wait a minute.",
  unauthorized: "Your visit timed out. Please reload the page.",
};

async function call(path, { headers, ...rest } = {}) {
  const answer = await fetch(path, { ...rest, headers: { Authorization: `Bearer ${token}`, ...headers } });
  return { body: await answer.json(), location: answer.headers.get("Location") };
}

async function buy(plan) {
  say("Preparing your payment page…");
  const back = `${location.origin}/shop`;
  const order = { plan, success_url: `${back}?paid=1`, cancel_url: `${back}?left=1` };
  const headers = { "Content-Type": "application/json" };
  const first = await call("/v1/checkouts", { method: "POST", headers, body: JSON.stringify(order) });
  let checkout = first.body;
  while (checkout.status === "pending") { // it was a 202: ask at Location, which answers as soon as there is news
    say("Still preparing your payment page…");
    checkout = (await call(first.location, { headers: { Prefer: "wait=20" } })).body;
    await sleep(checkout.status === "pending" ? 1000 : 0);
  }
  if (checkout.url) return location.assign(checkout.url);
  const { code, detail } = checkout.error ?? checkout;
  say(kindWords[code ?? checkout.status] ?? detail ?? "That did not work. Please try again.");
}

function show({ access, subscription, code, detail }) {
  if (!access) return say(kindWords[code] ?? detail); // a problem instead of an answer
  if (find("#notice").textContent === lost) say("");
  const waiting = cameBack.has("paid") && !access.granted; // the way back proves nothing: only Stripe's word counts
  const planName = find(`#plan-${subscription?.plan}`)?.textContent ?? "Your plan";
  find("[data-access]").dataset.access = access.granted ? "granted" : "denied";
  find("[data-access]").dataset.waiting = waiting;
  put("#access-title", access.granted ? "You have access" : waiting ? "Waiting for Stripe’s word…" : "No access yet");
  put("#access-text", access.granted ? `${planName} · ${access.reason.replaceAll("_", " ")}` : waiting
    ? "This page opens up as soon as your payment is confirmed." : "Choose a plan below; it opens the moment you have paid.");
  for (const button of document.querySelectorAll("[data-plan]"))
    button.toggleAttribute("data-mine", access.granted && subscription?.plan === button.dataset.plan);
}

// Only what changed: these places are read aloud to those who listen to the page.
const put = (selector, text) => { if (find(selector).textContent !== text) find(selector).textContent = text; };
const say = (text) => put("#notice", text);
const lost = "The shop cannot be reached just now. Trying again…";
const failed = () => say("That did not get through. Please try again.");
document.addEventListener("click", ({ target }) => target.dataset.plan && buy(target.dataset.plan).catch(failed));
if (cameBack.has("left")) say("You left before paying. Nothing was charged; try again whenever you like.");
for (;; await sleep(500)) if (!document.hidden) await call("/v1/subscription").then(({ body }) => show(body)).catch(() => say(lost));
