-- The floor of each step, for one table. The statements before `audits` are preparation: their time does not count.

-- name: landing
create unlogged table {landed} as select {columns} from {staging} limit 0;

-- name: month_before
create table {production} with (fillfactor = 50) as
select {columns} from {history}
where as_of = (select min(as_of) from {history});
alter table {production} add primary key (user_id);

-- name: at_rest
vacuum (analyze) {production};

-- name: audits
select count(delivered) from {staging} as delivered;

-- name: history
create table {new_history} as
select * from {history}
where as_of = (select max(as_of) from {history});

-- name: key
alter table {new_history} add primary key (user_id, as_of);

-- name: production
merge into {production} as old
using {staging} as new on old.user_id = new.user_id
when matched then update set {changes}
when not matched then insert ({columns}) values ({values});
