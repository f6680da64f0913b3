\echo Use "CREATE EXTENSION heliosdb_federated_learning" to load this file. \quit
