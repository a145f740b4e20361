"""Contract suites and tiny backbones: what every method, task, objective and family has to hold.

For code outside kerasft too: register a member, then hold it to its contract in a test.

    from kerasft.methods import registry
    from kerasft.testing import check_method

    @registry.register
    @dataclass(frozen=True)
    class MyMethod: ...

    def test_my_method():
        check_method(MyMethod(), "bert")

The two-replica parts need two logical CPU devices, set before TensorFlow starts:

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""

from kerasft.testing import tiny
from kerasft.testing.contracts import check_family, check_method, check_objective, check_task

__all__ = ["check_family", "check_method", "check_objective", "check_task", "tiny"]
