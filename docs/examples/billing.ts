// A page on a client that is generated from onelane's own document:
//   npx openapi-typescript http://127.0.0.1:8000/openapi.json -o onelane.ts
import createClient from "openapi-fetch";
import type { components, paths, webhooks } from "./onelane";

type Schemas = components["schemas"];
type Change = webhooks[keyof webhooks]["post"]["requestBody"]["content"]["application/json"];

const onelane = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });
onelane.use({
  onRequest({ request }) {
    request.headers.set("Authorization", `Bearer ${document.body.dataset.token}`);
  },
});

const why: Record<Schemas["AccessReason"], string> = {
  active: "You have access.",
  trialing: "Your trial is running.",
  period_paid: "This period is paid.",
  past_due_grace: "Your last payment failed; please update your card.",
  product_trial: "You are trying it out.",
  first_payment_pending: "Your payment is on its way.",
  past_due: "Your last payment failed.",
  unpaid: "Your last payment failed.",
  incomplete: "Your first payment is not finished.",
  paused: "Your trial is over.",
  canceled: "Your subscription is over.",
  collection_paused: "Your subscription is paused.",
  disputed: "Your payment is disputed.",
  refunded: "Your payment was paid back.",
  not_sold: "Please ask us.",
  no_subscription: "Choose a plan.",
  unknown_status: "Please ask us.",
};

export async function buy(plan: string, key: string = crypto.randomUUID()): Promise<string> {
  const here = location.origin + location.pathname;
  const params = { header: { "Idempotency-Key": key, Prefer: "wait=10" } };
  const body = { plan, success_url: `${here}?paid=1`, cancel_url: here };
  const { data, error } = await onelane.POST("/v1/checkouts", { params, body });
  if (error) throw new Error(error.code === "already_subscribed" ? "You have a subscription." : error.detail);
  let checkout = data;
  while (checkout.status === "pending") {
    const path = { id: checkout.id };
    const read = await onelane.GET("/v1/checkouts/{id}", { params: { path, header: { Prefer: "wait=10" } } });
    if (read.error) throw new Error(read.error.detail);
    checkout = read.data;
  }
  if (!checkout.url) throw new Error(checkout.error?.detail ?? checkout.status);
  return checkout.url;
}

export async function cancel(): Promise<string> {
  const { data, error } = await onelane.POST("/v1/subscription/cancel", {});
  if (error) throw new Error(error.managed_by ? `${error.detail} Ask us to change it.` : error.detail);
  return data.subscription?.current_period_end ?? "";
}

export async function access(): Promise<string> {
  const { data, error } = await onelane.GET("/v1/subscription");
  return error ? error.detail : why[data.access.reason];
}

// What your server is sent (docs/changes.md).
export function heard(change: Change): string {
  const { user_id, access, subscription } = change.data;
  switch (change.type) {
    case "subscription.activated":
      return `${user_id} has ${subscription.plan} until ${access.until ?? "further notice"}`;
    case "subscription.canceled":
      return `${user_id} left at ${subscription.ended_at}`;
    default:
      return `${user_id}: ${access.reason}`;
  }
}
