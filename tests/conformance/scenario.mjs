// The scenario with `stripe` for Node: `node scenario.mjs BASE SANDBOX VERSION`, run where node_modules has it.
import assert from "node:assert";
import Stripe from "stripe";

const [base, sandbox, apiVersion] = process.argv.slice(2);
const { hostname, port } = new URL(base);
const api = new Stripe("sk_test_of_conformance", { host: hostname, port, protocol: "http", apiVersion, telemetry: false });

const customer = await api.customers.create({ email: "ann@example.com", metadata: { user: "ann" } });
const product = await api.products.create({ name: "Claw" });
const month = { currency: "usd", product: product.id, recurring: { interval: "month" } };
const small = await api.prices.create({ ...month, unit_amount: 900 });
const large = await api.prices.create({ ...month, unit_amount: 1900 });
let session = await api.checkout.sessions.create({
  mode: "subscription",
  customer: customer.id,
  line_items: [{ price: small.id, quantity: 1 }],
  success_url: "https://example.com/done",
  subscription_data: { metadata: { type: "claw" } },
});
assert(session.status === "open" && session.url);
const paid = await fetch(`${sandbox}/_sandbox/checkout_sessions/${session.id}/pay`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: "{}",
});
assert(paid.ok);
session = await api.checkout.sessions.retrieve(session.id, { expand: ["subscription"] });
assert(session.status === "complete" && session.payment_status === "paid");
const listed = await api.subscriptions.list({ customer: customer.id, status: "all" });
const [subscription] = listed.data;
assert(subscription.id === session.subscription.id && subscription.status === "active");
const updated = await api.subscriptions.update(subscription.id, { metadata: { seen: "1" } });
assert.equal(updated.metadata.seen, "1");
let schedule = await api.subscriptionSchedules.create({ from_subscription: subscription.id });
const [first] = schedule.phases;
schedule = await api.subscriptionSchedules.update(schedule.id, {
  end_behavior: "release",
  phases: [
    { items: [{ price: small.id }], start_date: first.start_date, end_date: first.end_date },
    { items: [{ price: large.id }], duration: { interval: "month" } },
  ],
});
assert.equal(schedule.phases.length, 2);
assert.equal((await api.subscriptionSchedules.release(schedule.id)).status, "released");
const charges = await api.charges.list({ customer: customer.id });
assert.equal((await api.refunds.create({ charge: charges.data[0].id, amount: 100 })).status, "succeeded");
await api.billingPortal.configurations.create({ features: { invoice_history: { enabled: true } } });
assert((await api.billingPortal.sessions.create({ customer: customer.id })).url);
assert((await api.subscriptions.update(subscription.id, { cancel_at_period_end: true })).cancel_at);
assert.equal((await api.subscriptions.cancel(subscription.id)).status, "canceled");
const clocks = api.testHelpers.testClocks;
const clock = await clocks.create({ frozen_time: 1577836800 });
const card = { payment_method: "pm_card_visa", invoice_settings: { default_payment_method: "pm_card_visa" } };
const frozen = await api.customers.create({ test_clock: clock.id, ...card });
const renewing = await api.subscriptions.create({ customer: frozen.id, items: [{ price: small.id }] });
assert.equal((await clocks.advance(clock.id, { frozen_time: 1580515200 })).status, "advancing");
assert.equal((await clocks.retrieve(clock.id)).status, "ready");
assert.equal((await api.invoices.list({ subscription: renewing.id })).data.length, 2);
assert((await clocks.del(clock.id)).deleted);
const types = (await api.events.list({ limit: 100 })).data.map((one) => one.type);
for (const type of ["checkout.session.completed", "customer.subscription.deleted", "charge.refunded"]) {
  assert(types.includes(type), type);
}
await assert.rejects(api.customers.retrieve("cus_nobody"), { code: "resource_missing" });
