// What must not compile against the generated client: each line that does fails the test.
import createClient from "openapi-fetch";
import type { components, paths, webhooks } from "./onelane";

const onelane = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });
const body = { plan: "standard", success_url: "http://127.0.0.1:8000", cancel_url: "http://127.0.0.1:8000" };

export async function wrong(): Promise<void> {
  // @ts-expect-error: there is no such address
  await onelane.POST("/v1/checkout", { body });
  // @ts-expect-error: how many is a number
  await onelane.POST("/v1/checkouts", { body: { ...body, quantity: "2" } });
  // @ts-expect-error: cancel_url is missing
  await onelane.POST("/v1/checkouts", { body: { plan: "standard", success_url: "http://127.0.0.1:8000" } });
  const { data } = await onelane.GET("/v1/subscription");
  // @ts-expect-error: there is no such reason
  if (data?.access.reason === "paid") return;
  // @ts-expect-error: there is no such field
  if (data?.subscription?.price) return;
}

// @ts-expect-error: there is no such change
export type Missing = webhooks["subscription.renewed"];
// @ts-expect-error: `detail` is always there
export const problem: components["schemas"]["ProblemDetails"] = { code: "x", type: "x", title: "x", status: 400 };
