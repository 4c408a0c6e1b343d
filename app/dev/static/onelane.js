// A page's whole conversation with onelane, in plain JavaScript: docs/manage.md shows a page on it, the demo shop is another.
//   const onelane = connect({ address: "https://billing.example.com", token: () => theBuyersToken });
// What is refused is thrown: `code` is for the program (docs/frontend.md lists them), `message` for a person.
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const words = {
  already_subscribed: "You already have a subscription, so there is nothing to pay.",
  payment_in_progress: "An earlier payment of yours is still being settled. Please give it a moment.",
  superseded: "You chose another plan in the meantime; that one counts.",
  no_subscription: "You have no subscription.",
  managed_elsewhere: "Somebody else planned this for you. Please ask us to change it.",
  stripe_unavailable: "Payments cannot be reached just now. Please try again in a minute.",
  rate_limited: "That was a lot of clicks. Please wait a minute.",
  unauthorized: "Your visit timed out. Please log in again.",
};

export class Refused extends Error {
  constructor({ code, detail, ...more }) {
    super(words[code] ?? detail ?? "That did not work. Please try again.");
    Object.assign(this, more, { code, detail });
  }
}

// The subscription that can be managed: one that was never paid, or is over, is none.
export const running = ({ subscription }) =>
  ["incomplete", "incomplete_expired", "canceled"].includes(subscription?.status) ? null : subscription;

export function connect({ address = "", token }) {
  async function send(method, to, { body, headers } = {}) {
    const json = body && { "Content-Type": "application/json" };
    const login = { Authorization: `Bearer ${await token()}` };
    const answer = await fetch(to, { method, headers: { ...login, ...json, ...headers }, body: body && JSON.stringify(body) });
    return { answer, found: await answer.json() };
  }

  // One click, one key: tried again, it is the same checkout or change. A 202, and a 503 that says where to look later,
  // are followed to their end.
  async function ask(method, path, body, key = crypto.randomUUID()) {
    let { answer, found } = await send(method, address + path, { body, headers: { "Idempotency-Key": key } });
    const at = answer.headers.get("Location");
    while (found.status === "pending" || (at && found.retryable)) {
      await sleep(answer.headers.get("Retry-After") ?? 1);
      const later = new URL(at, address || location.origin);
      ({ answer, found } = await send("GET", later, { headers: { Prefer: "wait=10" } }));
    }
    if (found.error || found.code) throw new Refused(found.error ?? found);
    return found;
  }

  async function read() {
    const { found } = await send("GET", `${address}/v1/subscription`);
    if (found.code) throw new Refused(found);
    return found; // { access: { granted, reason, until }, subscription, product_trial }
  }

  return {
    read,
    // The address of the payment page: send the buyer there. Which origins may be returned to, REDIRECT_ORIGINS says.
    async buy(plan, { success_url, cancel_url, ...more }, key) {
      const { url, status } = await ask("POST", "/v1/checkouts", { plan, success_url, cancel_url, ...more }, key);
      if (!url) throw new Refused({ code: status });
      return url;
    },
    // For the success page: coming back proves nothing, and Stripe's word takes a second or two.
    async paid(seconds = 60) {
      for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(1)) {
        const found = await read();
        if (found.access.granted) return found;
      }
      return read();
    },
    cancel: () => ask("POST", "/v1/subscription/cancel"),
    reactivate: () => ask("POST", "/v1/subscription/reactivate"),
    change: (plan) => ask("POST", "/v1/subscription/switch", { plan }),
    keep: () => ask("DELETE", "/v1/subscription/switch"),
    portal: async (return_url) => (await ask("POST", "/v1/portal-sessions", { return_url })).url,
  };
}
