-- The rival: what a careful engineer writes by hand. One month's six files are copied into unlogged tables, upserted into
-- production on user_id, and appended to history. There is no audit and no foreign key, and unchanged rows are updated too.
--
--   psql --set ON_ERROR_STOP=1 --set as_of=2024-02-29 --set month=/data/month_001 --file rival.sql URI

\set QUIET on
set client_min_messages = warning;
set datestyle = 'ISO, YMD';

create table if not exists users (
    user_id text primary key, signup_date date, user_gender text, user_is_senior boolean, has_family boolean,
    has_dependents boolean
);
create table if not exists subscriptions (
    user_id text primary key, months_active int, plan_stream_tv boolean, plan_stream_movies boolean, contract_type text,
    paperless_billing boolean, monthly_fee numeric, total_paid numeric, net_service text
);
create table if not exists usage_agg_30d (
    user_id text primary key, watch_hours_30d numeric, avg_session_mins_7d numeric, unique_devices_30d int, skips_7d int,
    rebuffer_events_7d int
);
create table if not exists payments_agg_90d (user_id text primary key, failed_payments_90d int);
create table if not exists support_agg_90d (
    user_id text primary key, support_tickets_90d int, ticket_avg_resolution_hrs_90d numeric
);
create table if not exists labels (user_id text primary key, churn_label boolean);

-- Makes the statements for one table from its columns, and runs them.
create or replace procedure pg_temp.upsert(name text, as_of date) language plpgsql as $$
declare
    names text;
    changes text;
begin
    select
        string_agg(quote_ident(attname), ', ' order by attnum),
        string_agg(format('%1$I = excluded.%1$I', attname), ', ' order by attnum) filter (where attname <> 'user_id')
    into names, changes
    from pg_attribute where attrelid = name::regclass and attnum > 0;
    execute format('insert into %1$I (%2$s) select %2$s from landing.%1$I on conflict (user_id) do update set %3$s',
        name, names, changes);
    execute format('create table if not exists %I (like %I, as_of date, primary key (user_id, as_of))',
        name || '_snapshots', name);
    execute format('insert into %I select *, $1 from %I on conflict do nothing', name || '_snapshots', name) using as_of;
end;
$$;

create schema if not exists landing;
drop table if exists landing.users, landing.subscriptions, landing.usage_agg_30d, landing.payments_agg_90d,
landing.support_agg_90d, landing.labels;
create unlogged table landing.users (like users);
create unlogged table landing.subscriptions (like subscriptions);
create unlogged table landing.usage_agg_30d (like usage_agg_30d);
create unlogged table landing.payments_agg_90d (like payments_agg_90d);
create unlogged table landing.support_agg_90d (like support_agg_90d);
create unlogged table landing.labels (like labels);

\cd :month
\copy landing.users from 'users.csv' with (format csv, header)
\copy landing.subscriptions from 'subscriptions.csv' with (format csv, header)
\copy landing.usage_agg_30d from 'usage_agg_30d.csv' with (format csv, header)
\copy landing.payments_agg_90d from 'payments_agg_90d.csv' with (format csv, header)
\copy landing.support_agg_90d from 'support_agg_90d.csv' with (format csv, header)
\copy landing.labels from 'labels.csv' with (format csv, header)

begin;
call pg_temp.upsert('users', :'as_of');
call pg_temp.upsert('subscriptions', :'as_of');
call pg_temp.upsert('usage_agg_30d', :'as_of');
call pg_temp.upsert('payments_agg_90d', :'as_of');
call pg_temp.upsert('support_agg_90d', :'as_of');
call pg_temp.upsert('labels', :'as_of');
commit;
