SELECT workspace_name::text, min_nodes_required::int8, registered_nodes::int8, active_nodes::int8, status::text
FROM federated_workspace_status
WHERE workspace_name = coalesce($1::text, workspace_name) ORDER BY workspace_name
