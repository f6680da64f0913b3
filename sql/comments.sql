-- What the columns of the views mean. Those that are read with another view's are worded alike.
COMMENT ON COLUMN @extschema@.federated_node_status.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_node_status.node_name IS 'Name of the node in its workspace';
COMMENT ON COLUMN @extschema@.federated_node_status.status IS
    'pending until the coordinator has met the node, then active, slow or failed';
COMMENT ON COLUMN @extschema@.federated_node_status.last_seen IS
    'When the node last answered the coordinator; NULL before it ever did';
COMMENT ON COLUMN @extschema@.federated_node_status.rounds_participated IS
    'Training rounds, over all runs, in which an update of the node was received';
COMMENT ON COLUMN @extschema@.federated_node_status.avg_round_time_seconds IS
    'Mean time from sending a training task to receiving its update; NULL before the first';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.node_name IS 'Name of the node in its workspace';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.last_heartbeat IS
    'When the node last answered the coordinator; NULL before it ever did';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.connection_status IS
    'connected, connecting (not met yet) or disconnected, as the coordinator last found it';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.failure_reason IS 'Why the node failed; NULL where it did not';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.endpoint_in_use IS 'The address at which the node is called';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.certificate_expires IS
    'When the pinned certificate ends; NULL before one is pinned';
