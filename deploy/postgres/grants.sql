-- What the web and the workers may do with the tables. The role that owns them runs it after each `onelane db upgrade`:
--   psql --set ON_ERROR_STOP=1 --file grants.sql
\set ON_ERROR_STOP 1
BEGIN;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM onelane_web, onelane_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO onelane_worker;
REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM onelane_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO onelane_web, onelane_worker;

-- The web records what buyers and Stripe send, and what an operator does at its console. What Stripe said of a
-- subscription, who has access, and what is given back, it only reads. It deletes nothing but signs of life, counts
-- and logins.
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO onelane_web;
REVOKE INSERT, UPDATE ON alembic_version, installation, product_trials, projections, remedies, repayments, subscriptions
    FROM onelane_web;
GRANT INSERT ON product_trials TO onelane_web;  -- a user's first look begins their trial; nobody's is changed
GRANT UPDATE (state, finished_at) ON remedies TO onelane_web;  -- a person says at the console that it was done by hand
GRANT DELETE ON console_sessions, minute_counts, processes TO onelane_web;
COMMIT;
