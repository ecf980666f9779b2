-- name: known
select not exists (select {column} from {table} where {column} is not null except select {key} from {other});
