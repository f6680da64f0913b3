"""A node: one gradient step over its rows in a round, on parameters that come and go as one array."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the parameters after one step, and the number of rows."""
    [parameters] = message.content["arrays"].to_numpy_ndarrays()
    with np.load(str(context.node_config["rows"])) as stored:
        inputs, targets = stored["inputs"], stored["targets"]
    chances = 1.0 / (1.0 + np.exp(-(inputs @ parameters)))
    slope = inputs.T @ (chances - targets) / len(targets)
    moved = parameters - float(context.run_config["learning-rate"]) * slope
    answer = RecordDict(
        {"arrays": ArrayRecord([moved]), "metrics": MetricRecord({"num-examples": len(targets)})}
    )
    return Message(content=answer, reply_to=message)
