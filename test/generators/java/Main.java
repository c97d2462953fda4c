import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.TasksApi;
import org.openapitools.client.api.TypesApi;
import org.openapitools.client.model.Duration;
import org.openapitools.client.model.SetLimitRequest;
import org.openapitools.client.model.Status;
import org.openapitools.client.model.Task;
import org.openapitools.client.model.TaskInput;

/** The client that openapi-generator makes for Java. */
public class Main {
    public static void main(String[] args) throws Exception {
        ApiClient client = new ApiClient();
        client.updateBaseUri(args[0]);
        client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + args[1]));
        TasksApi tasks = new TasksApi(client);
        TypesApi types = new TypesApi(client);
        TaskInput input = new TaskInput().type("remote").payload(Map.of("n", 1)).delay(new Duration("1h"));
        Task task = tasks.submitTask(input);
        check(tasks.getTask(task.getId()).getPayload().equals(Map.of("n", 1)));
        check(tasks.listTasks(Status.PENDING, "remote", null, null, null, null, null, null, null, null, null, null).getTasks().stream()
            .anyMatch(listed -> listed.getId().equals(task.getId())));
        check(tasks.cancelTask(task.getId()).getStatus() == Status.CANCELED);
        tasks.purgeTask(task.getId());
        SetLimitRequest limit = new SetLimitRequest().taskType("remote");
        check(types.setLimit(limit.maxConcurrency(2)).getMaxConcurrency() == 2);
        check(types.getLimit("remote").getMaxConcurrency() == 2);
        check(types.setLimit(limit.maxConcurrency(null)).getMaxConcurrency() == null);
        try {
            tasks.getTask("nobody");
            check(false);
        } catch (ApiException refused) {
            check(refused.getCode() == 404 && refused.getResponseBody().contains("\"code\":\"not_found\""));
        }
        System.out.println("OK");
    }

    static void check(boolean holds) {
        if (!holds) throw new AssertionError();
    }
}
