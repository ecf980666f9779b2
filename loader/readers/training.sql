-- name: rows
copy (
    select {columns} from public.training_set where as_of = {as_of} and label_as_of = {label_as_of}
) to stdout (format csv, header);
