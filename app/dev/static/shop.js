// The demo shop on onelane.js. The server that rendered the page put a short-lived token into <body data-token>.
import { connect, running } from "./onelane.js";

const onelane = connect({ token: () => document.body.dataset.token });
const find = (selector) => document.querySelector(selector);
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const cameBack = new URLSearchParams(location.search);
const back = `${location.origin}/shop`;
const lost = "The shop cannot be reached just now. Trying again…";
let mine = null; // the live subscription, as the page last read it

function show(found) {
  const { access } = found;
  if (find("#notice").textContent === lost) say("");
  mine = running(found);
  const waiting = cameBack.has("paid") && !access.granted; // the way back proves nothing: only Stripe's word counts
  const name = (plan) => find(`#plan-${plan}`)?.textContent ?? "Your plan";
  const day = mine?.current_period_end?.slice(0, 10);
  const planned = mine?.cancel_at_period_end ? ` · ends ${day}`
    : mine?.scheduled_plan ? ` · ${name(mine.scheduled_plan)} from ${day}` : "";
  find("[data-access]").dataset.access = access.granted ? "granted" : "denied";
  find("[data-access]").dataset.waiting = waiting;
  put("#access-title", access.granted ? "You have access" : waiting ? "Waiting for Stripe’s word…" : "No access yet");
  put("#access-text", access.granted ? `${name(mine?.plan)} · ${access.reason.replaceAll("_", " ")}${planned}` : waiting
    ? "This page opens up as soon as your payment is confirmed." : "Choose a plan below; it opens the moment you have paid.");
  for (const button of document.querySelectorAll("[data-plan]")) {
    button.toggleAttribute("data-mine", access.granted && mine?.plan === button.dataset.plan);
    button.toggleAttribute("data-change", Boolean(mine) && mine.plan !== button.dataset.plan);
  }
  const useful = { cancel: !mine?.cancel_at_period_end, reactivate: mine?.cancel_at_period_end, keep: mine?.scheduled_plan, portal: true };
  for (const button of document.querySelectorAll("[data-do]"))
    button.hidden = !mine || !useful[button.dataset.do];
}

async function choose(plan) {
  if (mine && mine.plan !== plan) return act(() => onelane.change(plan));
  say("Preparing your payment page…");
  location.assign(await onelane.buy(plan, { success_url: `${back}?paid=1`, cancel_url: `${back}?left=1` }));
}

async function act(change) {
  say("One moment…");
  await change();
  say("");
}

// Only what changed: these places are read aloud to those who listen to the page.
const put = (selector, text) => { if (find(selector).textContent !== text) find(selector).textContent = text; };
const say = (text) => put("#notice", text);
const refused = ({ code, message }) => say(code ? message : "That did not get through. Please try again.");
const done = async () => show(await onelane.read());
document.addEventListener("click", ({ target }) => {
  const { plan, do: name } = target.dataset;
  const acts = { ...onelane, portal: async () => location.assign(await onelane.portal(back)) };
  if (plan || name) (plan ? choose(plan) : act(acts[name])).then(done).catch(refused);
});
if (cameBack.has("left")) say("You left before paying. Nothing was charged; try again whenever you like.");
for (;; await sleep(500))
  if (!document.hidden) await onelane.read().then(show).catch((error) => say(error.code ? error.message : lost));
