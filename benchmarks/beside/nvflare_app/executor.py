"""The same node as an Executor, which NVFlare calls itself: no script waits for a task, nobody polls for its answer."""

from model import step
from nvflare.apis.dxo import from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.np.constants import NPConstants
from nvflare.app_common.utils.fl_model_utils import FLModelUtils


class StepExecutor(Executor):
    """One gradient step for each task."""

    def __init__(self, directory: str, learning_rate: float) -> None:
        super().__init__()
        self.directory = directory
        self.learning_rate = learning_rate

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Return the parameters after a step."""
        del task_name, abort_signal
        parameters = from_shareable(shareable).data[NPConstants.NUMPY_KEY]
        moved, rows = step(parameters, self.directory, fl_ctx.get_identity_name(), self.learning_rate)
        meta = {FLMetaKey.NUM_STEPS_CURRENT_ROUND: rows}
        return FLModelUtils.to_shareable(FLModel(params={NPConstants.NUMPY_KEY: moved}, meta=meta))
