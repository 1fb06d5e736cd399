"""petstore: an example workload that has some pets."""
