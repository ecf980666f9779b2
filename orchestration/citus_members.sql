-- Tells the coordinator in docker-compose.yml its address and its workers. Runs once, when its volume is new.
select citus_set_coordinator_host('citus', 5432);
select citus_add_node('citus-worker-1', 5432);
select citus_add_node('citus-worker-2', 5432);
