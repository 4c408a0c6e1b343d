-- Roles of the ledger, each with what its processes need and no more. A superuser runs it once, in the new database:
--   psql --set ON_ERROR_STOP=1 --file roles.sql
-- with the three passwords in the environment. In docker-compose.yml the image does, when it makes the volume.
\set ON_ERROR_STOP 1
\getenv migrate_password MIGRATE_DATABASE_PASSWORD
\getenv web_password WEB_DATABASE_PASSWORD
\getenv worker_password WORKER_DATABASE_PASSWORD

CREATE ROLE onelane_migrate LOGIN PASSWORD :'migrate_password' NOINHERIT;  -- owns the tables: `onelane db upgrade`
CREATE ROLE onelane_web LOGIN PASSWORD :'web_password' NOINHERIT;          -- reads and records: `onelane web`
CREATE ROLE onelane_worker LOGIN PASSWORD :'worker_password' NOINHERIT;    -- `onelane worker`, `beat`, and the commands

SELECT current_database() AS ledger \gset
REVOKE ALL ON DATABASE :"ledger" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"ledger" TO onelane_migrate, onelane_web, onelane_worker;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO onelane_migrate;
GRANT USAGE ON SCHEMA public TO onelane_web, onelane_worker;
