-- Row grain: row of the staging table on which, taken alone, the audit passes.
{row} from {staging} as r where not exists ({audit_of_row})
